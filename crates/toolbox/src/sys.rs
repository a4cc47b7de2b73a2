//! What WASI 0.2 has and std has not: the working directory that the container's spec names, and exit codes.

mod bindings {
    wit_bindgen::generate!({
        inline: r#"
            package skiff:toolbox;

            world toolbox {
                import wasi:cli/environment@0.2.6;
                import wasi:cli/exit@0.2.6;
            }

            package wasi:cli@0.2.6 {
                interface environment {
                    get-environment: func() -> list<tuple<string, string>>;
                    get-arguments: func() -> list<string>;
                    initial-cwd: func() -> option<string>;
                }
                interface exit {
                    exit: func(status: result);
                    exit-with-code: func(status-code: u8);
                }
            }
        "#,
        generate_all,
    });
}

pub(crate) use bindings::wasi::cli::environment::initial_cwd;
pub(crate) use bindings::wasi::cli::exit::exit_with_code;
