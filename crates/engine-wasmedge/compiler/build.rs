//! Loader and libraries are the bundle's own, found through the descriptor on which a shim passes the bundle's folder
//! (`skiff_sandbox::plan::LIBRARIES_FD`), wherever it lies.

fn main() {
    let folder = "/proc/self/fd/5/lib";
    for argument in [
        format!("-Wl,--dynamic-linker={folder}/ld-linux-x86-64.so.2"),
        format!("-Wl,--disable-new-dtags,-rpath,{folder}"),
        // The library was linked against a newer C library than this machine may have.
        "-Wl,--allow-shlib-undefined".to_owned(),
        "-Wl,--build-id=sha1".to_owned(),
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SKIFF_BUNDLE");
}
