// Collecting and cleaning a support bundle (support_bundle.h).
#include "tools/support_bundle.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>

#include "common/base/hex.h"
#include "common/crypto/keys.h"
#include "common/site/site_set.h"
#include "daemon/metadata/state_directory.h"
#include "tools/daemon_link.h"
#include "tools/json_text.h"
#include "tools/key_backup.h"
#include "tools/reports.h"

namespace datacloud {
namespace {

constexpr size_t kTailBytesMax = 2u << 20;  // of each log
constexpr size_t kLogsMax = 32;
constexpr size_t kFilesListedMax = 2000;

// The last bytes of a file, or why they cannot be had.
std::string tail_of(const std::filesystem::path& path, size_t bytes_max = kTailBytesMax) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return "(cannot be read)\n";
  in.seekg(0, std::ios::end);
  const auto size = std::max<std::streamoff>(in.tellg(), 0);
  const auto wanted = std::min<std::streamoff>(size, static_cast<std::streamoff>(bytes_max));
  in.seekg(size - wanted);
  std::string text(static_cast<size_t>(wanted), '\0');
  in.read(text.data(), wanted);
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

// Files of /proc have no size.
std::string small_file(const char* path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(64 << 10, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return text;
}

std::string lines_with(const std::string& text, const std::string& word) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    if (line.find(word) != std::string::npos) out += line + "\n";
    at = end + 1;
  }
  return out;
}

std::string ask_daemon(const CommandContext& context, bool traffic) {
  auto link = connect_to_daemon(context);
  if (!link) return link.error().text() + "\n";
  pb::Request request;
  if (traffic) {
    request.mutable_traffic();
  } else {
    request.mutable_status();
  }
  auto reply = link.value().call(std::move(request));
  if (!reply) return reply.error().text() + "\n";
  return json_text(traffic ? traffic_json(link.value().hello.cloud(), reply.value().traffic())
                           : status_json(reply.value().status()));
}

std::string describe_keys(const Config& config) {
  std::string out;
  const std::pair<std::filesystem::path, KeyFileKind> files[] = {
      {config.keys.data, KeyFileKind::data}, {config.keys.service, KeyFileKind::service}};
  for (const auto& [path, kind] : files) {
    const auto key = read_key_file(path, kind);
    out += path.string() + ": " +
           (key ? fmt::format("cloud {}, fingerprint {}", key.value().cloud_uuid,
                              key_fingerprint(key.value().key))
                : key.error().text()) +
           "\n";
  }
  return out;
}

std::string describe_sites(const Config& config) {
  std::string out;
  for (const auto& site : config.sites) {
    const auto marker = read_store_marker(site);
    out += fmt::format("{} ({}): {}\n", site.name, site.store,
                       marker ? fmt::format("site {} \"{}\" of cloud {}", marker.value().site_id,
                                            marker.value().site_name, marker.value().cloud_uuid)
                              : marker.error().message());
  }
  return out;
}

std::string list_files(const std::filesystem::path& directory) {
  std::string out;
  size_t listed = 0;
  std::error_code ec;
  for (std::filesystem::recursive_directory_iterator it(directory, ec), end; !ec && it != end;
       it.increment(ec)) {
    if (++listed > kFilesListedMax) return out + "(and more)\n";
    std::error_code no_size;
    const auto size = it->is_regular_file(no_size) ? it->file_size(no_size) : 0;
    out += fmt::format("{:>14}  {}\n", size, it->path().lexically_relative(directory).string());
  }
  return ec ? out + ec.message() + "\n" : out;
}

void add_logs(const std::filesystem::path& directory, const std::string& prefix,
              std::vector<BundleText>& out) {
  std::error_code ec;
  size_t added = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ec)) {
    if (entry.path().extension() != ".log" || !entry.is_regular_file(ec)) continue;
    if (++added > kLogsMax) return;
    out.push_back({prefix + entry.path().filename().string().substr(0, 60), tail_of(entry.path())});
  }
}

std::string base64(const std::string& raw) {
  std::string out(4 * ((raw.size() + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(raw.data()),
                                   static_cast<int>(raw.size()));
  out.resize(static_cast<size_t>(size));
  return out.substr(0, raw.size() / 3 * 4);  // the last letters depend on what follows
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

std::string without_secrets(const std::string& toml) {
  static constexpr const char* kWords[] = {"secret", "password", "passphrase", "token", "keyring"};
  std::string out;
  for (size_t at = 0; at < toml.size();) {
    const size_t end = std::min(toml.find('\n', at), toml.size());
    std::string line = toml.substr(at, end - at);
    const size_t equals = line.find('=');
    const std::string name = lower(line.substr(0, std::min(equals, line.size())));
    const bool secret = std::ranges::any_of(
        kWords, [&](const char* word) { return name.find(word) != std::string::npos; });
    if (equals != std::string::npos && secret)
      line = line.substr(0, equals + 1) + " \"(left out)\"";
    out += line + "\n";
    at = end + 1;
  }
  return out;
}

std::vector<std::string> remove_keys(std::vector<BundleText>& texts,
                                     const std::vector<std::string>& raw_keys) {
  std::vector<std::string> removed;
  for (auto& text : texts) {
    const std::string small = lower(text.contents);
    const bool found = std::ranges::any_of(raw_keys, [&](const std::string& key) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(key.data());
      return text.contents.find(key) != std::string::npos ||
             text.contents.find(base64(key)) != std::string::npos ||
             small.find(to_hex({bytes, key.size()})) != std::string::npos;
    });
    if (!found) continue;
    text.contents = "(left out: it holds a key)\n";
    removed.push_back(text.name);
  }
  return removed;
}

std::vector<BundleText> collect_bundle(const CommandContext& context) {
  std::vector<BundleText> out;
  utsname name{};
  ::uname(&name);
  out.push_back(
      {"versions.txt", fmt::format("datacloud {}\n{} {} {} {}\n", DATACLOUD_VERSION, name.sysname,
                                   name.release, name.version, name.machine) +
                           small_file("/etc/os-release")});
  out.push_back({"configuration.toml", without_secrets(tail_of(context.config, 1 << 20))});
  out.push_back({"mounts.txt", lines_with(small_file("/proc/self/mounts"), "datacloud")});
  out.push_back({"memory.txt", small_file("/proc/meminfo")});
  add_logs("/var/log/datacloud", "log-", out);
  const auto config = load_config(context.config);
  if (!config) {
    out.push_back({"configuration-error.txt", config.error().text() + "\n"});
    return out;
  }
  out.push_back({"status.json", ask_daemon(context, false)});
  out.push_back({"traffic.json", ask_daemon(context, true)});
  out.push_back({"keys.txt", describe_keys(config.value())});
  out.push_back({"sites.txt", describe_sites(config.value())});
  out.push_back({"metadata-files.txt", list_files(metadata_directory(config.value().daemon))});
  add_logs(config.value().daemon.state, "daemon-", out);
  std::vector<std::string> keys;
  for (const auto& [path, kind] : {std::pair{config.value().keys.data, KeyFileKind::data},
                                   std::pair{config.value().keys.service, KeyFileKind::service}}) {
    if (const auto key = read_key_file(path, kind); key) {
      const ByteView bytes = key.value().key.view();
      keys.emplace_back(bytes.begin(), bytes.end());
    }
  }
  (void)remove_keys(out, keys);
  return out;
}

}  // namespace datacloud
