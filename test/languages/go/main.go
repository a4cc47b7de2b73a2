// What every guest of test/languages does, in Go: README.md beside says what.
package main

import (
	"fmt"
	"io"
	"math/bits"
	"os"
	"strings"
)

func main() {
	fmt.Printf("arguments: %s\n", strings.Join(os.Args[1:], "|"))
	fmt.Printf("COLOUR: %s\n", os.Getenv("COLOUR"))
	read, err := os.ReadFile("/data/in")
	if err != nil {
		read = []byte(err.Error())
	}
	fmt.Printf("read: %s\n", strings.TrimSpace(string(read)))
	written := "/data/out"
	if err := os.WriteFile(written, []byte("written by a guest\n"), 0o644); err != nil {
		written = err.Error()
	}
	fmt.Printf("written: %s\n", written)
	fmt.Printf("checksum: %08x\n", checksum())
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Printf("input: %v\n", err)
	} else {
		fmt.Printf("input: %d bytes\n", len(input))
	}
	fmt.Fprintln(os.Stderr, "a line of standard error")
	os.Exit(7)
}

func checksum() uint32 {
	right := func(value uint32, n int) uint32 { return bits.RotateLeft32(value, -n) }
	var a, b uint32 = 0x6a09e667, 0xbb67ae85
	for i := range uint32(100_000) {
		a = (right(a, 6) ^ right(a, 11) ^ right(a, 25)) + b + i
		b = (right(b, 2) ^ right(b, 13) ^ right(b, 22)) ^ a
	}
	return a ^ b
}
