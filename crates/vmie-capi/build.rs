//! Names the shared library for the dynamic linker.
//!
//! The name changes whenever the ABI may: with the major version, and before 1.0 with the minor one. A
//! program keeps the library that it was linked with.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let part = |name: &str| env::var(name).unwrap_or_default();
    if part("CARGO_CFG_TARGET_OS") == "linux" {
        let major = part("CARGO_PKG_VERSION_MAJOR");
        let minor = part("CARGO_PKG_VERSION_MINOR");
        let abi = if major == "0" {
            format!("0.{minor}")
        } else {
            major
        };
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libvmie.so.{abi}");
    }
}
