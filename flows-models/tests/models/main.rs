//! Models by name, and their files.

mod file;
mod named;
