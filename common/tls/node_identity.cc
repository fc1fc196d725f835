// Names, roles and the URI that holds them (node_identity.h).
#include "common/tls/node_identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace datacloud {
namespace {

constexpr std::string_view kScheme = "datacloud://";
constexpr size_t kUuidBytes = 36;
constexpr std::pair<NodeRole, const char*> kRoles[] = {
    {NodeRole::mount, "mount"},     {NodeRole::mount_ro, "mount-ro"}, {NodeRole::admin, "admin"},
    {NodeRole::auditor, "auditor"}, {NodeRole::daemon, "daemon"},     {NodeRole::site, "site"}};

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_uuid(std::string_view text) {
  return text.size() == kUuidBytes && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '-';
         });
}

}  // namespace

std::vector<std::string> NodeRoles::names() const {
  std::vector<std::string> out;
  for (const auto& [role, name] : kRoles)
    if (has(role)) out.emplace_back(name);
  return out;
}

std::string NodeRoles::text() const { return fmt::format("{}", fmt::join(names(), ",")); }

result<NodeRoles> NodeRoles::parse(const std::vector<std::string>& words) {
  NodeRoles roles;
  for (const auto& word : words) {
    const auto known = std::find_if(std::begin(kRoles), std::end(kRoles),
                                    [&](const auto& role) { return word == role.second; });
    if (known == std::end(kRoles)) {
      return failure(Errc::invalid, fmt::format("\"{}\" is no role of a node: mount, mount-ro, "
                                                "admin, auditor or site",
                                                word.substr(0, 64)));
    }
    roles.add(known->first);
  }
  if (roles.empty())
    return failure(Errc::invalid, "a node needs a role: mount, mount-ro, admin, auditor or site");
  return roles;
}

result<NodeRoles> NodeRoles::parse(std::string_view text) {
  std::vector<std::string> words;
  while (true) {
    const size_t comma = std::min(text.find(','), text.size());
    words.emplace_back(text.substr(0, comma));
    if (comma == text.size()) return parse(words);
    text.remove_prefix(comma + 1);
  }
}

bool valid_node_name(std::string_view name) {
  return !name.empty() && name.size() <= kNodeNameBytesMax && is_alphanumeric(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_alphanumeric(c) || c == '-' || c == '_' || c == '.'; });
}

std::string to_uri(const NodeIdentity& identity) {
  return fmt::format("{}{}/{}?{}", kScheme, identity.cloud_uuid, identity.name,
                     identity.roles.text());
}

result<NodeIdentity> parse_node_uri(std::string_view uri) {
  const auto none = [] {
    return failure(Errc::corrupt, "the certificate names no node of a Data Cloud");
  };
  if (uri.size() > 512 || !uri.starts_with(kScheme)) return none();
  uri.remove_prefix(kScheme.size());
  const size_t slash = uri.find('/');
  if (slash == std::string_view::npos) return none();
  const size_t question = uri.find('?', slash);
  if (question == std::string_view::npos) return none();
  NodeIdentity identity;
  identity.cloud_uuid = std::string(uri.substr(0, slash));
  identity.name = std::string(uri.substr(slash + 1, question - slash - 1));
  auto roles = NodeRoles::parse(uri.substr(question + 1));
  if (!roles || !is_uuid(identity.cloud_uuid) || !valid_node_name(identity.name)) return none();
  identity.roles = roles.value();
  return identity;
}

}  // namespace datacloud
