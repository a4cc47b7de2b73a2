//! One module for each command: asks the libraries, prints what they answer.

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod inspect;
pub(crate) mod run;
pub(crate) mod warm;
