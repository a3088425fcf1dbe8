//! Where the recorder and the group meet: captures are claimed, recordings sealed and published, and
//! the recorder is told what the group decides. What is to be done when is decided in [`core`]; the
//! words of both sides are in [`words`].

pub mod core;
pub mod health;
pub mod words;
