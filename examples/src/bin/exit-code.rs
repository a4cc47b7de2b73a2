//! Ends with the exit code that its argument says: `exit-code [code]`.

use std::{env, process};

fn main() {
    let code = env::args()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(42);
    process::exit(code);
}
