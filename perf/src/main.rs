//! What measures Strongroom beside its rivals.

fn main() {}
