//! The web server over real sockets on loopback, with a node behind it that is made up.

mod audit;
mod client;
mod exports;
mod fetch;
mod holds;
mod hostile;
mod http;
mod listen;
mod node;
mod oidc;
mod requests;
mod roles;
mod scores;
mod signin;
mod socket;
mod teams;
mod tls;
