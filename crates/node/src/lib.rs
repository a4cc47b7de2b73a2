//! A node seen from outside of its containers: can Skiff run here, what has to be done for it, and what has to be
//! undone?
//!
//! [`doctor`] answers the first for the command line. It gathers facts (a few harmless system calls, files of
//! procfs, containerd's own answers), then judges them; nothing on the node is changed by either.
//! [`installer`] does the rest: it takes a [`plan::Snapshot`] of the node, makes a plan of it (pure: [`plan`],
//! [`config`], [`layout`]), has containerd judge the plan, and carries it out under a journal ([`state`]).

pub mod binaries;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod files;
pub mod handler;
pub mod host;
pub mod installer;
pub mod layout;
pub mod plan;
pub mod proof;
pub mod state;
mod steps;
