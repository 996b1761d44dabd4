//! Tests of the whole front: its answers, and its connections.

mod answers;
mod connections;
