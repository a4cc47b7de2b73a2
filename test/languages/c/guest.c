/* What every guest of test/languages does, in C: README.md beside says what. */

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t right(uint32_t value, int bits) { return value >> bits | value << (32 - bits); }

static uint32_t checksum(void) {
    uint32_t a = 0x6a09e667, b = 0xbb67ae85;
    for (uint32_t i = 0; i < 100000; i++) {
        a = (right(a, 6) ^ right(a, 11) ^ right(a, 25)) + b + i;
        b = (right(b, 2) ^ right(b, 13) ^ right(b, 22)) ^ a;
    }
    return a ^ b;
}

int main(int count, char **words) {
    /* A line is seen when it is there. */
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    printf("arguments: ");
    for (int i = 1; i < count; i++) printf("%s%s", i > 1 ? "|" : "", words[i]);
    const char *colour = getenv("COLOUR");
    printf("\nCOLOUR: %s\n", colour ? colour : "");

    char line[100] = "";
    FILE *file = fopen("/data/in", "r");
    if (!file || !fgets(line, sizeof line, file)) strcpy(line, strerror(errno));
    if (file) fclose(file);
    line[strcspn(line, "\n")] = 0;
    printf("read: %s\n", line);

    file = fopen("/data/out", "w");
    int written = file && fputs("written by a guest\n", file) >= 0;
    if (file && fclose(file)) written = 0;
    printf("written: %s\n", written ? "/data/out" : strerror(errno));

    printf("checksum: %08" PRIx32 "\n", checksum());
    char buffer[4096];
    size_t length = 0, some;
    while ((some = fread(buffer, 1, sizeof buffer, stdin)) > 0) length += some;
    printf("input: %zu bytes\n", length);
    fprintf(stderr, "a line of standard error\n");
    return 7;
}
