//! The tree beneath real directories, with everything that tries to lead out of it.
