//! Writes an ordinary Linux image as an OCI archive, without a container tool: `make image` calls it.
//!
//!     skiff-linux-image NAME OUTPUT PROGRAM ARCHITECTURE=FOLDER…
//!
//! The folder is the image's root, the program a path in it. The same files give the same bytes.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command answers on both"
)]

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use skiff_image::build::{Built, LinuxRecipe, build_linux};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, output, program, roots @ ..] = words.as_slice() else {
        eprintln!("usage: skiff-linux-image NAME OUTPUT PROGRAM ARCHITECTURE=FOLDER…");
        return ExitCode::from(2);
    };
    let recipe = LinuxRecipe {
        name: name.clone(),
        entrypoint: vec![program.clone()],
        roots: roots
            .iter()
            .map(|root| {
                let (architecture, folder) = root.split_once('=').unwrap_or((root, ""));
                (architecture.to_owned(), folder.into())
            })
            .collect(),
    };
    match write(&recipe, Path::new(output)) {
        Ok(built) => {
            println!("{} {} in {output}", built.name, built.digest);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let cause = error
                .source()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            eprintln!("skiff-linux-image: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

/// The archive appears under its name when it is whole.
fn write(recipe: &LinuxRecipe, output: &Path) -> Result<Built, Box<dyn Error>> {
    let new = output.with_added_extension("new");
    let write = || -> Result<Built, Box<dyn Error>> {
        let mut file = BufWriter::new(File::create(&new)?);
        let built = build_linux(recipe, &mut file)?;
        file.flush()?;
        fs::rename(&new, output)?;
        Ok(built)
    };
    let written = write();
    if written.is_err() {
        // It may not be there at all.
        fs::remove_file(&new).ok();
    }
    written
}
