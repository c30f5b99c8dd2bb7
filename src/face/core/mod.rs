//! The core face: the objects and names of the seed document.

pub mod system;
