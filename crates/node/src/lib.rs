//! A node seen from outside of its containers: can Skiff run here, and if not, what has to be done?
//!
//! [`doctor`] answers that for the command line. It gathers facts (a few harmless system calls, files of
//! procfs, containerd's own answers), then judges them; the judgements are pure functions. Nothing on
//! the node is changed by either.

pub mod doctor;
