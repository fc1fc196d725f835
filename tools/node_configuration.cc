// Writing TOML (node_configuration.h); reading it is common/config's.
#include "tools/node_configuration.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <string_view>

#include "common/net/address.h"
#include "common/tls/node_identity.h"
#include "common/tls/organisation.h"
#include "common/tls/server_certificate.h"

namespace datacloud {
namespace {

// A basic string of TOML 1.0: quotes, backslashes and control characters are escaped.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += std::string("\\") + c;
    else if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\u{:04x}", byte);
    else
      out += c;
  }
  return out + "\"";
}

std::string line(const char* key, const std::string& value) {
  return value.empty() ? "" : fmt::format("{} = {}\n", key, quoted(value));
}

std::string list_line(const char* key, const std::vector<std::string>& values) {
  std::string list;
  for (const auto& value : values) list += (list.empty() ? "" : ", ") + quoted(value);
  return values.empty() ? "" : fmt::format("{} = [{}]\n", key, list);
}

// As configured, or as the certificate that is shown says.
std::vector<std::string> identities_of(const std::vector<std::string>& configured,
                                       const ShownCertificate& shown) {
  if (!configured.empty() || shown.certificate.empty()) return configured;
  const auto read = ServerCertificate::read(shown.certificate, shown.key);
  return read ? std::vector<std::string>{read.value()->identity()} : std::vector<std::string>();
}

// "#! ceph-keyring PART ENTITY KEY" in place of a site's keyring. PART names the file, KEY is "-"
// when the user is made by hand. To programs that do not know the line it is a comment.
constexpr std::string_view kKeyringLine = "#! ceph-keyring ";

std::string user_lines(const CephUser& user, size_t number) {
  const std::string part =
      valid_node_name(user.site) ? user.site : fmt::format("site-{}", number + 1);
  return line("user", user.entity) + fmt::format("{}{} {} {}\n", kKeyringLine, part, user.entity,
                                                 user.key.empty() ? "-" : user.key);
}

// Where nodes reach a directory that is served here; empty: it is not.
std::string served_address(const SiteConfig& site) {
  if (site.serve.empty() || !site.address.empty()) return site.address;
  auto address = parse_tls_address(site.serve);
  if (!address) return {};
  if (is_wildcard(address.value())) {
    std::array<char, kHostBytesMax + 1> host{};
    if (::gethostname(host.data(), host.size() - 1) == 0) address.value().host = host.data();
  }
  return to_text(address.value());
}

}  // namespace

std::string shared_configuration(const Config& config, const std::vector<CephUser>& users) {
  std::string out;
  for (const auto& site : config.sites) {
    out += "\n[[site]]\n" + line("name", site.name);
    if (site.store == "remote" || !site.serve.empty()) {
      out += line("store", "remote") + line("address", served_address(site)) +
             list_line("identity", identities_of(site.identity, site.shown));
      continue;
    }
    out += line("store", site.store);
    if (site.store == "directory") out += line("path", site.path.string());
    if (site.store != "rados") continue;
    const auto own = std::find_if(users.begin(), users.end(),
                                  [&](const auto& user) { return user.site == site.name; });
    out += line("conf", site.conf.string());
    out += own != users.end() ? user_lines(*own, static_cast<size_t>(own - users.begin()))
                              : line("user", site.user) + line("keyring", site.keyring.string());
    out += line("pool", site.pool) + line("namespace", site.nspace);
  }
  return out;
}

result<PlacedKeyrings> place_keyrings(const std::string& shared,
                                      const std::filesystem::path& directory,
                                      const std::string& cloud) {
  PlacedKeyrings out;
  for (size_t at = 0; at < shared.size();) {
    const size_t end = std::min(shared.find('\n', at), shared.size());
    const std::string text = shared.substr(at, end - at);
    at = end + 1;
    if (!text.starts_with(kKeyringLine)) {
      out.shared += text + "\n";
      continue;
    }
    std::istringstream words(text.substr(kKeyringLine.size()));
    std::string part, entity, key;
    const bool plain = words >> part >> entity >> key && valid_node_name(part) &&
                       entity.starts_with("client.") && valid_node_name(entity) &&
                       key.find_first_of("\"[]\\") == std::string::npos;
    if (!plain) return failure(Errc::corrupt, "the line of a Ceph user is damaged");
    PlacedKeyrings::File file{directory / (cloud + "." + part + ".keyring"), "", entity};
    if (key != "-") file.text = fmt::format("[{}]\n\tkey = {}\n", entity, key);
    out.shared += line("keyring", file.path.string());
    out.files.push_back(std::move(file));
  }
  return out;
}

NodeFiles node_files(const std::filesystem::path& directory, const std::string& cloud) {
  return {directory / (cloud + ".toml"),     directory / (cloud + ".node.key"),
          directory / (cloud + ".node.crt"), directory / (cloud + ".authority.crt"),
          directory / (cloud + ".data.key"), directory / (cloud + ".organisation.crt")};
}

result<OrganisationOfServers> organisation_of_servers(const Config& config) {
  OrganisationOfServers out;
  out.daemon = identities_of(config.node.daemon_identity, config.daemon.shown);
  if (out.daemon.empty() && !config.daemon.shown.certificate.empty()) {
    TRY(ServerCertificate::read(config.daemon.shown.certificate, config.daemon.shown.key));
  }
  if (config.node.organisation.empty()) {
    if (out.daemon.empty()) return out;
    return failure(Errc::invalid,
                   config.file.string() +
                       ": nodes need the authorities that have signed the daemon's certificate: "
                       "name their file, authorities");
  }
  TRY(const auto der, read_authorities_file(config.node.organisation));
  for (const auto& one : split_certificates(der)) out.authorities += certificate_pem(one);
  return out;
}

std::string node_configuration(const std::string& cloud, const std::string& node,
                               const std::vector<std::string>& daemon, const NodeFiles& files,
                               bool has_data_key, const std::string& shared,
                               const OrganisationOfServers& organisation) {
  std::string out =
      fmt::format("# Node {} of the cloud {}, by `datacloud join`.\n[cloud]\n{}\n[node]\n{}", node,
                  cloud, line("name", cloud), list_line("daemon", daemon));
  out += line("key", files.key.string()) + line("certificate", files.certificate.string()) +
         line("authority", files.authority.string());
  if (!organisation.authorities.empty()) {
    out += line("authorities", files.organisation.string()) +
           list_line("daemon_identity", organisation.daemon);
  }
  if (has_data_key) out += "\n[keys]\n" + line("data", files.data_key.string());
  return out + shared;
}

}  // namespace datacloud
