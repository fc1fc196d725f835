// See daemons_file.h.
#include "common/config/daemons_file.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include "common/base/hex.h"
#include "common/config/config_section.h"
#include "common/config/node_certificate.h"
#include "common/crypto/secret_file.h"

namespace datacloud {
namespace {

constexpr size_t kFileBytesMax = 256u << 10;
constexpr size_t kDaemonsMax = 16, kAddressesMax = 8;
constexpr const char* kHead =
    "# Where the daemons of this cloud were last reached. Written by mounts of this machine; may "
    "be\n"
    "# deleted, and is made again (docs/nodes.md, \"Several daemons\").\n";

// Text of names and addresses, which have no quotes or backslashes; others are left out.
bool plain(const std::string& text) {
  for (const char c : text)
    if (c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  return text.size() <= 256;
}

result<DaemonsFile> parse(const toml::table& document, const std::string& file) {
  ConfigSection s(document, "the file", file);
  DaemonsFile out;
  std::string key;
  TRY(s.text("cloud", out.cloud_uuid));
  TRY(s.text("leader_key", key));
  TRY(s.number("epoch", out.epoch, 0, INT64_MAX));
  std::array<uint8_t, 32> bytes{};
  if (!from_hex(key, bytes)) return failure(s.error("leader_key", "leader_key is no key"));
  out.leader_key = SecretKey(ByteView(bytes));
  OPENSSL_cleanse(bytes.data(), bytes.size());
  OPENSSL_cleanse(key.data(), key.size());
  const toml::node* list = s.find("daemon");
  if (list != nullptr && !list->is_array_of_tables())
    return failure(s.error("daemon", "daemon must be tables"));
  for (size_t i = 0; list != nullptr && i < list->as_array()->size(); ++i) {
    const auto& table = *list->as_array()->get(i)->as_table();
    if (out.daemons.size() == kDaemonsMax) break;
    auto& daemon = out.daemons.emplace_back();
    daemon.name = table["name"].value_or(std::string());
    daemon.leads = table["leads"].value_or(false);
    const auto* addresses = table["addresses"].as_array();
    for (size_t j = 0; addresses != nullptr && j < addresses->size(); ++j)
      if (const auto* text = addresses->get(j)->as_string();
          text != nullptr && daemon.addresses.size() < kAddressesMax)
        daemon.addresses.push_back(text->get());
  }
  TRY(s.refuse_unknown());
  return out;
}

}  // namespace

std::filesystem::path daemons_file_of(const std::filesystem::path& configuration) {
  auto path = configuration;
  return path.replace_extension(".daemons");
}

result<DaemonsFile> read_daemons_file(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return failure(Errc::not_found, path.string() + " does not exist");
  TRY(auto text, read_secret_file(path, kFileBytesMax, "the file of known daemons", ""));
  try {
    const toml::table document = toml::parse(text, path.string());
    OPENSSL_cleanse(text.data(), text.size());
    return parse(document, path.string());
  } catch (const toml::parse_error& e) {
    return failure(Errc::invalid, path.string() + ": " + std::string(e.description()));
  }
}

result<void> write_daemons_file(const std::filesystem::path& path, const DaemonsFile& file) {
  std::string text = fmt::format("{}cloud = \"{}\"\nleader_key = \"{}\"\nepoch = {}\n", kHead,
                                 file.cloud_uuid, to_hex(file.leader_key.view()), file.epoch);
  for (const auto& daemon : file.daemons) {
    if (!plain(daemon.name)) continue;
    text += fmt::format("\n[[daemon]]\nname = \"{}\"\nleads = {}\naddresses = [", daemon.name,
                        daemon.leads);
    const char* separator = "";
    for (const auto& address : daemon.addresses) {
      if (!plain(address)) continue;
      text += fmt::format("{}\"{}\"", std::exchange(separator, ", "), address);
    }
    text += "]\n";
  }
  auto written = replace_file(path, text);
  OPENSSL_cleanse(text.data(), text.size());
  return written;
}

}  // namespace datacloud
