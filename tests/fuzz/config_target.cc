// The configuration file and mount options.
#include "common/config/config.h"

#include <cctype>

#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace config_input {

void run(ByteView input) {
  const std::string text(as_text(input));
  const auto config = parse_config(text, "f.toml");
  if (config) {
    require(!config.value().sites.empty(), "a configuration has a site");
    require(config.value().node.joined() || !config.value().daemon.listen.empty(),
            "a configuration has the address of a daemon");
    require(config.value().node.joined() || config.value().keys.data.is_absolute(),
            "paths are absolute");
  } else {
    const std::string& error = config.error().text();
    require(error.starts_with("f.toml:") && std::isdigit(static_cast<unsigned char>(error[7])),
            "errors start with FILE:LINE");
  }
  MountConfig mount;
  if (const auto applied = apply_mount_option(mount, text); applied && applied.value())
    require(mount.threads >= 1 && mount.threads <= 256, "options stay within their bounds");
}

std::vector<Bytes> seeds() {
  return {copy_of(R"([cloud]
name = "demo"
code = "rs-3-2"
block_bytes = "64KiB"
[daemon]
state = "/s"
listen = ["unix:/a"]
lease_ms = "30s"
[keys]
data = "/d"
service = "/e"
[mount]
cache_bytes_max = 1048576
sync_close = true
[[site]]
name = "a"
store = "directory"
path = "/a"
)"),
          copy_of("cache_bytes_max=64MiB"), copy_of("sync_close=true"), copy_of("threads=7"),
          copy_of("flush_after_ms=10s")};
}

}  // namespace config_input

FuzzTarget config_target() { return {"config", config_input::run, config_input::seeds}; }

}  // namespace datacloud::fuzz
