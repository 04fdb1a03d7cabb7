//! Files of the experiments: got from a server, and read.

mod fetch;
mod hdf5;
