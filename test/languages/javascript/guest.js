// What every guest of test/languages does, in JavaScript: README.md beside says what.
// The engine has no library for files and streams: these are WASI's own functions.

import { getArguments, getEnvironment } from "wasi:cli/environment@0.2.12";
import { exitWithCode } from "wasi:cli/exit@0.2.12";
import { getStderr } from "wasi:cli/stderr@0.2.12";
import { getStdin } from "wasi:cli/stdin@0.2.12";
import { getStdout } from "wasi:cli/stdout@0.2.12";
import { getDirectories } from "wasi:filesystem/preopens@0.2.12";

const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (text) => new TextEncoder().encode(text);
const right = (value, bits) => (value >>> bits) | (value << (32 - bits));

function checksum() {
  let a = 0x6a09e667;
  let b = 0xbb67ae85;
  for (let i = 0; i < 100_000; i++) {
    a = ((right(a, 6) ^ right(a, 11) ^ right(a, 25)) + b + i) | 0;
    b = right(b, 2) ^ right(b, 13) ^ right(b, 22) ^ a;
  }
  return (a ^ b) >>> 0;
}

/** An error of WASI is its name in `payload`. */
function tried(what) {
  try {
    return what();
  } catch (error) {
    return error.payload ?? String(error);
  }
}

function read(root) {
  const file = root.openAt({}, "data/in", {}, { read: true });
  return text(file.read(100n, 0n)[0]).trimEnd();
}

function write(root) {
  const file = root.openAt({}, "data/out", { create: true, truncate: true }, { write: true });
  file.write(bytes("written by a guest\n"), 0n);
  return "/data/out";
}

function length(stream) {
  let length = 0;
  for (;;) {
    try {
      length += stream.blockingRead(4096n).length;
    } catch (error) {
      if (error.payload?.tag === "closed") return length;
      throw error;
    }
  }
}

export const run = {
  run() {
    const output = getStdout();
    const say = (line) => output.blockingWriteAndFlush(bytes(`${line}\n`));
    const [root] = getDirectories()[0];
    say(`arguments: ${getArguments().slice(1).join("|")}`);
    say(`COLOUR: ${Object.fromEntries(getEnvironment()).COLOUR ?? ""}`);
    say(`read: ${tried(() => read(root))}`);
    say(`written: ${tried(() => write(root))}`);
    say(`checksum: ${checksum().toString(16).padStart(8, "0")}`);
    say(`input: ${tried(() => length(getStdin()))} bytes`);
    getStderr().blockingWriteAndFlush(bytes("a line of standard error\n"));
    exitWithCode(7);
  },
};
