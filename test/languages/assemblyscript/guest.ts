// What every guest of test/languages does, in AssemblyScript: README.md beside says what.
// Its library has arguments, environment and streams; files are WASI's own functions.

import {
  errno,
  errnoToString,
  fd_close,
  fd_read,
  fd_write,
  oflags,
  path_open,
  rights,
} from "@assemblyscript/wasi-shim/assembly/bindings/wasi_snapshot_preview1";

/** The guest's only directory that is open at the start: its root. */
const ROOT: u32 = 3;

function checksum(): u32 {
  let a: u32 = 0x6a09e667;
  let b: u32 = 0xbb67ae85;
  for (let i: u32 = 0; i < 100_000; i++) {
    a = (rotr<u32>(a, 6) ^ rotr<u32>(a, 11) ^ rotr<u32>(a, 25)) + b + i;
    b = (rotr<u32>(b, 2) ^ rotr<u32>(b, 13) ^ rotr<u32>(b, 22)) ^ a;
  }
  return a ^ b;
}

/** Opens a file, which is named without the slash of the root; answers an errno, and the descriptor in `opened`. */
function open(path: string, flags: u16, wanted: u64, opened: StaticArray<u32>): errno {
  const name = String.UTF8.encode(path);
  return path_open(ROOT, 0, changetype<usize>(name), name.byteLength, flags, wanted, 0, 0, changetype<usize>(opened));
}

function read(path: string): string {
  const opened = new StaticArray<u32>(1);
  const failed = open(path, 0, rights.FD_READ, opened);
  if (failed) return errnoToString(failed);
  const bytes = new ArrayBuffer(100);
  const vector: StaticArray<usize> = [changetype<usize>(bytes), bytes.byteLength];
  const count = new StaticArray<usize>(1);
  fd_read(opened[0], changetype<usize>(vector), 1, changetype<usize>(count));
  fd_close(opened[0]);
  return String.UTF8.decode(bytes.slice(0, <i32>count[0])).trimEnd();
}

function write(path: string, text: string): errno {
  const opened = new StaticArray<u32>(1);
  const failed = open(path, oflags.CREAT | oflags.TRUNC, rights.FD_WRITE, opened);
  if (failed) return failed;
  const bytes = String.UTF8.encode(text);
  const vector: StaticArray<usize> = [changetype<usize>(bytes), bytes.byteLength];
  const count = new StaticArray<usize>(1);
  const wrong = fd_write(opened[0], changetype<usize>(vector), 1, changetype<usize>(count));
  fd_close(opened[0]);
  return wrong;
}

const output = process.stdout;
output.write("arguments: " + process.argv.slice(1).join("|") + "\n");
output.write("COLOUR: " + (process.env.has("COLOUR") ? process.env.get("COLOUR") : "") + "\n");
output.write("read: " + read("data/in") + "\n");
const failed = write("data/out", "written by a guest\n");
output.write("written: " + (failed ? errnoToString(failed) : "/data/out") + "\n");
output.write("checksum: " + checksum().toString(16).padStart(8, "0") + "\n");

const buffer = new ArrayBuffer(4096);
let length = 0;
let some = 0;
while ((some = process.stdin.read(buffer)) > 0) length += some;
output.write("input: " + length.toString() + " bytes\n");
process.stderr.write("a line of standard error\n");
process.exit(7);
