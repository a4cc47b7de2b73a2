// What every guest of test/languages does, in C++ without exceptions: README.md beside says what.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

namespace {

struct Close {
    void operator()(std::FILE *file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

constexpr std::uint32_t right(std::uint32_t value, int bits) { return value >> bits | value << (32 - bits); }

std::uint32_t checksum() {
    std::uint32_t a = 0x6a09e667, b = 0xbb67ae85;
    for (std::uint32_t i = 0; i < 100'000; i++) {
        a = (right(a, 6) ^ right(a, 11) ^ right(a, 25)) + b + i;
        b = (right(b, 2) ^ right(b, 13) ^ right(b, 22)) ^ a;
    }
    return a ^ b;
}

} // namespace

int main(int count, char **first) {
    const std::vector<std::string> words(first + 1, first + count);
    std::string joined;
    for (const auto &word : words) joined += (joined.empty() ? "" : "|") + word;
    const char *colour = std::getenv("COLOUR");
    // A line is seen when it is there.
    std::cout << std::unitbuf;
    std::cout << "arguments: " << joined << "\nCOLOUR: " << (colour ? colour : "") << '\n';

    // Debian's library has no <fstream>.
    std::string line = "it cannot be read";
    if (const File file(std::fopen("/data/in", "r")); file) {
        char bytes[100];
        line.assign(bytes, std::fread(bytes, 1, sizeof bytes, file.get()));
        line.erase(std::min(line.find('\n'), line.size()));
    }
    std::cout << "read: " << line << '\n';

    bool written = false;
    if (File file(std::fopen("/data/out", "w")); file) {
        written = std::fputs("written by a guest\n", file.get()) >= 0;
        written = std::fclose(file.release()) == 0 && written;
    }
    std::cout << "written: " << (written ? "/data/out" : "it cannot be written") << '\n';

    std::cout << "checksum: " << std::hex << std::setw(8) << std::setfill('0') << checksum() << std::dec << '\n';
    const std::string input(std::istreambuf_iterator<char>(std::cin), {});
    std::cout << "input: " << input.size() << " bytes\n";
    std::cerr << "a line of standard error\n";
    return 7;
}
