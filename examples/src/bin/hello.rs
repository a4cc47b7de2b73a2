//! Says what it was given: arguments, environment, working directory.

use std::env;

fn main() {
    println!("hello from WebAssembly");
    for (index, argument) in env::args().enumerate() {
        println!("argument {index}: {argument}");
    }
    for (name, value) in env::vars() {
        println!("environment: {name}={value}");
    }
    if let Ok(directory) = env::current_dir() {
        println!("working directory: {}", directory.display());
    }
    eprintln!("and this line is on stderr");
}
