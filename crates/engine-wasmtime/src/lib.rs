//! wasmtime's configuration, shared by host and compile worker.
