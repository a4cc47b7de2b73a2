/* The program that runc runs where the others run hello.wat: it writes a line, or sleeps. */
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
    static const char text[] = "hello from a container\n";
    if (count > 1 && strcmp(arguments[1], "sleep") == 0) {
        for (;;) pause();
    }
    return write(1, text, sizeof text - 1) < 0;
}
