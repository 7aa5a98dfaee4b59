//! Compiles `proto/` into Rust and a descriptor set for reflection. It does nothing else, and needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    // chat.proto and message.proto come with those that import them.
    compiler.open_files([
        "acsbroker/v1/identity.proto",
        "acsbroker/v1/token.proto",
        "acsbroker/v1/sms.proto",
        "acsbroker/v1/email.proto",
        "acsbroker/v1/event.proto",
    ])?;
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells a build script where to write in its environment"
    )]
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("acsbroker_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    // No derived Debug: it would print tokens and user ids. src/grpc/proto.rs gives one that does not.
    tonic_prost_build::configure()
        .skip_debug(["."])
        .codec_path("crate::grpc::codec::Bounded")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
