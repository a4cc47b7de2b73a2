//! How a tool stops early, and the kernel's words for what went wrong.

use std::io;

/// Why a tool cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The command line is not understood.
    #[error("{0}")]
    Usage(String),
    /// The work cannot be done.
    #[error("{0}")]
    Failed(String),
    /// Nobody reads the output.
    #[error("write error: {}", words(.0))]
    Output(#[from] io::Error),
}

/// How a tool ended.
pub(crate) type Done = Result<u8, Stop>;

/// A command line that is not understood.
pub(crate) fn usage(sentence: impl Into<String>) -> Stop {
    Stop::Usage(sentence.into())
}

/// Work that cannot be done.
pub(crate) fn failed(sentence: impl Into<String>) -> Stop {
    Stop::Failed(sentence.into())
}

/// The error in the words that the tools of other systems use, without its number, which differs between them.
pub(crate) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        // Errors without a number are written as those with one.
        None => {
            let mut letters = text.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_errors_are_left_out() {
        let error = std::fs::File::open("/no/such/file").unwrap_err();
        assert_eq!(words(&error), "No such file or directory");
        assert_eq!(words(&io::ErrorKind::IsADirectory.into()), "Is a directory");
    }
}
