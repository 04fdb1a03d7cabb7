//! The same work as other flow libraries do it, timed the same way.

pub mod case;
pub mod contender;
pub mod rate;
pub mod table;
pub mod timing;
