//! Watches without a socket, where time can be stopped.
