//! A simulated Avaya switch behind simulated AES servers.
