;; What waits in a pod: it sleeps for eleven days.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One subscription: user data (0), the kind at 8 is 0 for a clock, the clock's id at 16 is 1 for the
  ;; monotonic one, its timeout at 24: 10^15 ns.
  (data (i32.const 16) "\01\00\00\00")
  (data (i32.const 24) "\00\80\c6\a4\7e\8d\03\00")
  (func (export "_start")
    (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))
