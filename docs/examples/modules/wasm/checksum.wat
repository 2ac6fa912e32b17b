;; The claw `text.checksum` as WebAssembly text: the FNV-1a hash of its arguments.
;;
;;     python -c 'import sys, wasmtime; sys.stdout.buffer.write(wasmtime.wat2wasm(sys.stdin.read()))' \
;;         < checksum.wat > checksum.wasm
(module
  (memory (export "memory") 1)
  (data (i32.const 16) "FC-ABI-1.0.0\00")
  (data (i32.const 32) "{\22checksum\22:\2200000000\22}\00")
  (data (i32.const 64) "0123456789abcdef")
  (global $free (mut i32) (i32.const 1024))

  ;; Memory is handed out and never taken back: an instance serves one execution.
  (func (export "femtoclaw_module_alloc") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $free))
    (global.set $free
      (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (block $enough
      (br_if $enough (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $enough
        (i32.ge_s
          (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))
          (i32.const 0)))
      (return (i32.const 0)))
    (local.get $at))

  (func (export "femtoclaw_module_version") (result i32) (i32.const 16))

  (func (export "femtoclaw_module_init") (param $context i32) (result i32)
    (i32.ne (i32.shr_u (i32.load (local.get $context)) (i32.const 16)) (i32.const 1)))

  (func (export "femtoclaw_module_execute") (param $request i32) (param $response i32) (result i32)
    (local $at i32) (local $hash i32) (local $digit i32)
    (local.set $hash (i32.const 0x811c9dc5))
    (local.set $at (i32.load offset=12 (local.get $request)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (i32.load8_u (local.get $at))))
        (local.set $hash
          (i32.mul (i32.xor (local.get $hash) (i32.load8_u (local.get $at))) (i32.const 16777619)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (local.set $digit (i32.const 7))
    (loop $write
      (i32.store8
        (i32.add (i32.const 45) (local.get $digit))
        (i32.load8_u (i32.add (i32.const 64) (i32.and (local.get $hash) (i32.const 15)))))
      (local.set $hash (i32.shr_u (local.get $hash) (i32.const 4)))
      (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
      (br_if $write (i32.ge_s (local.get $digit) (i32.const 0))))
    (i32.store (local.get $response) (i32.const 0))
    (i32.store offset=4 (local.get $response) (i32.const 32))
    (i32.const 0))

  (func (export "femtoclaw_module_shutdown")))
