//! Who provides what is not provided here: the end of the sentence about an unknown import.

use super::LinkError;

/// `(prefix of the module's or interface's name, who provides it)`; the first that fits counts.
const HINTS: &[(&str, &str)] = &[
    (
        "wasi_unstable",
        "this is the WASI of 2019; build the module with a toolchain of today, for example for wasm32-wasip1",
    ),
    ("wasi_ephemeral_nn", NEURAL),
    ("wasi_nn", NEURAL),
    ("wasi:nn/", NEURAL),
    (
        "wasmedge_",
        "it is an extension of WasmEdge; run the container with a RuntimeClass for WasmEdge",
    ),
    (
        "wasi_ephemeral_crypto",
        "wasi-crypto was withdrawn; build a cryptography library into the module",
    ),
    (
        "wasix_",
        "WASIX is provided by Wasmer only; build for plain WASI, for example for wasm32-wasip1",
    ),
    (
        "wasi:http/",
        "it is provided to components that handle HTTP requests (they export wasi:http/incoming-handler); a program of \
         wasi:cli has sockets",
    ),
    (DRAFTS[0], DRAFT),
    (DRAFTS[1], DRAFT),
    (DRAFTS[2], DRAFT),
    ("wasi:blobstore/", SERVICE),
    ("wasi:messaging/", SERVICE),
    ("wasi:sql/", SERVICE),
    ("wasi:tls/", SERVICE),
    ("fermyon:", SPIN),
    ("spin:", SPIN),
    ("wasmcloud:", "it is provided by wasmCloud hosts"),
    (
        "extism:",
        "it is a plug-in for Extism, to be loaded by an application",
    ),
    ("wbg", BROWSER),
    ("__wbindgen", BROWSER),
    ("./", BROWSER),
    (
        "gojs",
        "Go's js/wasm port needs a browser or Node.js; build with GOOS=wasip1",
    ),
    (
        "go",
        "Go's js/wasm port needs a browser or Node.js; build with GOOS=wasip1",
    ),
    (
        "env",
        "functions of `env` come from JavaScript glue (Emscripten, AssemblyScript) or were left undefined by the linker; \
         build for a WASI target, for example wasm32-wasip1",
    ),
];
const NEURAL: &str = "wasi-nn is not provided by wasmtime containers; run it with a RuntimeClass for WasmEdge and its plug-in";
const SERVICE: &str =
    "it is a service of application platforms; a container gets files, environment and sockets";
/// Packages that have no versions but drafts, some of which are provided.
const DRAFTS: [&str; 3] = ["wasi:config/", "wasi:keyvalue/", "wasi:logging/"];
const DRAFT: &str = "this draft of it is not known; wasi:config/store@0.2.0-rc.1, wasi:keyvalue 0.2.0-draft and 0.2.0-draft2 and \
     wasi:logging/logging@0.1.0-draft are";
const SPIN: &str = "it is provided by Spin; run the component with Spin's shim, or compose it with a component that provides it";
const BROWSER: &str =
    "it was built for a browser by wasm-bindgen; build for wasm32-wasip1 or wasm32-wasip2";
const NOTHING: &str =
    "no container provides it; compose the guest with something that does, or build it without";

/// The error for an import that is not linked.
pub fn unknown(guest: &str, module: &str, item: &str, wasi_p3: bool) -> LinkError {
    LinkError::UnknownImport {
        guest: guest.to_owned(),
        module: module.to_owned(),
        item: item.to_owned(),
        hint: hint(module, item, wasi_p3).to_owned(),
    }
}

fn hint(module: &str, item: &str, wasi_p3: bool) -> &'static str {
    if item == "thread-spawn" || item == "thread_spawn" {
        return "wasmtime has given up wasi-threads; build the module without threads";
    }
    if module == "wasi_snapshot_preview1" {
        return if item.starts_with("sock_") {
            "it is an extension of WASI p1 by WasmEdge; run the container with a RuntimeClass for WasmEdge, or build for \
             wasm32-wasip2, which has sockets"
        } else {
            "WASI p1 has no such function"
        };
    }
    if module.starts_with("wasi:") {
        match module.split_once('@') {
            Some((_, version))
                if version.contains('-')
                    && !DRAFTS.iter().any(|draft| module.starts_with(draft)) =>
            {
                return "versions of WASI before 0.2.0 are not provided; build the component with a toolchain of today";
            }
            Some((_, version)) if version.starts_with("0.3.") && !wasi_p3 => {
                return "WASI 0.3 is off; the option WasiP3 = true of the handler that the RuntimeClass names switches it on";
            }
            _ => {}
        }
    }
    HINTS
        .iter()
        .find(|(prefix, _)| fits(module, prefix))
        .map_or(NOTHING, |(_, hint)| hint)
}

/// A prefix that ends in a letter is a whole word: `go` is not `google:x/y`.
fn fits(module: &str, prefix: &str) -> bool {
    module.strip_prefix(prefix).is_some_and(|rest| {
        !prefix.ends_with(char::is_alphabetic)
            || !rest.starts_with(|next: char| next.is_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_names_import_and_remedy() {
        let cases = [
            ("env", "emscripten_memcpy_big", "Emscripten"),
            ("wasi", "thread-spawn", "wasi-threads"),
            ("wasi_snapshot_preview1", "sock_open", "WasmEdge"),
            ("wasi_snapshot_preview1", "fd_fly", "no such function"),
            ("wasi_unstable", "fd_write", "2019"),
            ("wasi_nn", "load", "wasi-nn"),
            ("wasi:nn/graph@0.2.0-rc-2024-10-28", "load", "before 0.2.0"),
            ("wasi:http/types@0.2.3", "[constructor]fields", "wasi:http"),
            (
                "wasi:cli/environment@0.3.0",
                "get-environment",
                "WASI 0.3 is off",
            ),
            (
                "wasi:cli/environment@0.2.0-rc-2023-12-05",
                "get-environment",
                "before 0.2.0",
            ),
            ("wasi:keyvalue/store@0.2.0-draft3", "open", "0.2.0-draft2"),
            (
                "wasi:blobstore/container@0.2.0-draft",
                "open",
                "before 0.2.0",
            ),
            ("fermyon:spin/http@2.0.0", "send", "Spin"),
            ("gojs", "runtime.wasmExit", "GOOS=wasip1"),
            ("google:cloud/x", "y", "no container provides it"),
            ("wbg", "__wbg_log", "wasm-bindgen"),
        ];
        for (module, item, expected) in cases {
            let sentence = unknown("/app.wasm", module, item, false).to_string();
            assert!(sentence.contains(expected), "{sentence}");
            assert!(
                sentence.starts_with(&format!("/app.wasm imports {item} from {module}, ")),
                "{sentence}"
            );
        }
    }
}
