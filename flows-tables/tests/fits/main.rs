//! Tables, fitted. In one program: each would compile the models again.

mod ensemble;
mod kinds;
mod own_table;
mod weights;
