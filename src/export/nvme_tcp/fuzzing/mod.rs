//! What fuzzers drive: bytes of a host go in, and nothing may come of them but answers. Only with the feature `fuzzing`, which no
//! product build has; the same functions run the corpus as an ordinary test.

mod decode;
mod playground;

pub use decode::pdu;
pub use playground::{ACCOUNT, CONTROLLER, HOST_ID, OPEN_HOST, PROVING_HOST, Playground};
