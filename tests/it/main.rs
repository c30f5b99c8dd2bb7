//! Black-box tests.

mod runner;
