//! What was asked: one model, two front ends.

mod model;

pub use model::*;
