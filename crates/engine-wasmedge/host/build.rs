//! Loader and libraries are the bundle's own, found through the descriptor on which a shim passes the bundle's folder
//! (`skiff_sandbox::plan::LIBRARIES_FD`), wherever it lies.

use std::env;

fn main() {
    let bundle = "/proc/self/fd/5";
    let mut arguments = vec![
        format!("-Wl,--dynamic-linker={bundle}/lib/ld-linux-x86-64.so.2"),
        // First the folder with the stub that stands for LLVM.
        format!("-Wl,--disable-new-dtags,-rpath,{bundle}/host:{bundle}/lib"),
        // The library was linked against a newer C library than this machine may have.
        "-Wl,--allow-shlib-undefined".to_owned(),
        "-Wl,--build-id=sha1".to_owned(),
    ];
    // WasmEdge's library has a path of its own, on which the real LLVM lies. What the executable itself needs is loaded
    // before what its libraries need, and a name that is there already is looked for nowhere.
    let Ok(stub) = env::var("SKIFF_LLVM_STUB") else {
        panic!("SKIFF_LLVM_STUB does not name the stub: the host is built by bundle.sh");
    };
    arguments.extend([
        "-Wl,--push-state,--no-as-needed".to_owned(),
        stub,
        "-Wl,--pop-state".to_owned(),
    ]);
    for argument in arguments {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SKIFF_BUNDLE");
    println!("cargo::rerun-if-env-changed=SKIFF_LLVM_STUB");
}
