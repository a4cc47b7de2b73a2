;; The smallest guest that says something, in WebAssembly's text format. An image may hold it as it is
;; (entrypoint /hello.wat); `skiff build` makes it binary.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One buffer for fd_write: its address (16) and its length (16), then the text.
  (data (i32.const 0) "\10\00\00\00\10\00\00\00")
  (data (i32.const 16) "hello from text\n")
  (func (export "_start")
    (drop (call $fd_write
      (i32.const 1)     ;; stdout
      (i32.const 0)     ;; where the buffers are described
      (i32.const 1)     ;; how many
      (i32.const 8))))) ;; where the number of bytes written goes
