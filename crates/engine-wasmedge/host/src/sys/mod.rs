//! The C library's resolver, replaced under its own name. All unsafe code of the host is below here.

mod names;
