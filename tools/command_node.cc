// `datacloud node`: the machines that use the cloud from afar (docs/nodes.md).
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "common/base/hex.h"
#include "common/config/node_certificate.h"
#include "common/net/address.h"
#include "common/tls/join_line.h"
#include "tools/admin_call.h"
#include "tools/ceph_users.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/node_addresses.h"
#include "tools/node_calls.h"
#include "tools/node_configuration.h"
#include "tools/terminal.h"

namespace datacloud {
result<pb::NodeReply> ask_nodes(DaemonLink& link, pb::NodeRequest wanted) {
  pb::AdminRequest request;
  *request.mutable_node() = std::move(wanted);
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_node());
}

// Where a node will reach the daemons: as it was said, or as they tell.
result<std::vector<std::string>> addresses_for(const Config& config, const NodeAddOptions& options,
                                               const pb::HelloReply& hello,
                                               const pb::NodeReply& daemon) {
  for (const auto& address : options.addresses) {
    TRY(parse_tls_address(address));
  }
  std::vector<std::string> out = options.addresses;
  if (out.size() > kJoinAddressesMax) out.resize(kJoinAddressesMax);
  if (out.empty())
    out = node_addresses(config.node, hello.daemons(), daemon.listen(), kJoinAddressesMax);
  if (!out.empty()) return out;
  return failure(Errc::invalid,
                 "the daemon listens on no tls:// address: add one to [daemon] listen, such as "
                 "\"tls://0.0.0.0:7411\", and restart it");
}

result<KeyFile> key_for_node(const Config& config, const NodeAddOptions& options,
                             const NodeRoles& roles) {
  auto read = config.keys.data.empty()
                  ? result<KeyFile>(failure(Errc::invalid, "this machine has no data key"))
                  : read_key_file(config.keys.data, KeyFileKind::data);
  if (read) return read;
  return failure(
      Errc::invalid,
      fmt::format("{}\nThe line has to be made where the data key is. There, run:\n  datacloud "
                  "--config FILE node add {} --role {}",
                  read.error().text(), options.name, fmt::join(roles.names(), " --role ")));
}

namespace {

constexpr uint64_t kLineValidMsMax = 30ull * 24 * 3600 * 1000;  // as the daemon's

const char* state_name(const pb::Node& node, int64_t now_ns) {
  switch (node.state()) {
    case pb::NODE_JOINED:
      return "joined";
    case pb::NODE_REVOKED:
      return "revoked";
    default:
      return now_ns > node.invitation().expires_ns() ? "expired" : "invited";
  }
}

std::string joined_words(const google::protobuf::RepeatedPtrField<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
}

int64_t certificate_end(const pb::Node& node) {
  return node.certificates().empty()
             ? 0
             : node.certificates(node.certificates_size() - 1).not_after_ns();
}

// Certificates of the organisation are judged by their own dates.
Json time_json(int64_t ns) { return ns == 0 || ns == INT64_MAX ? Json() : Json(ns / kNsPerSecond); }
std::string end_text(int64_t ns) {
  return ns == INT64_MAX ? "its own end (organisation's)" : local_time(ns);
}

Json json_of(const pb::NodeReply& reply) {
  Json list = Json::array();
  for (const auto& listed : reply.nodes()) {
    const pb::Node& node = listed.node();
    Json certificates = Json::array();
    for (const auto& certificate : node.certificates())
      certificates.push_back({{"serial", to_hex(as_bytes(certificate.serial()))},
                              {"not_after", time_json(certificate.not_after_ns())}});
    list.push_back(
        {{"name", node.name()},
         {"roles", std::vector<std::string>(node.roles().begin(), node.roles().end())},
         {"state", state_name(node, wall_now_ns())},
         {"created", time_json(node.created_ns())},
         {"line_expires", time_json(node.invitation().expires_ns())},
         {"joined", time_json(node.joined_ns())},
         {"revoked", time_json(node.revoked_ns())},
         {"connected", listed.connected()},
         {"address", listed.address()},
         {"version", listed.version()},
         {"protocol", listed.protocol()},
         {"round_trip_us", listed.round_trip_us() == 0 ? Json() : Json(listed.round_trip_us())},
         {"directory", listed.directory().empty() ? Json() : Json(listed.directory())},
         {"certificates", std::move(certificates)}});
  }
  return {{"authority", to_hex(as_bytes(reply.authority_hash()))},
          {"listen", std::vector<std::string>(reply.listen().begin(), reply.listen().end())},
          {"nodes", std::move(list)}};
}

std::string text_of(const pb::NodeReply& reply) {
  if (reply.nodes().empty())
    return "no nodes; `datacloud node add NAME --role mount` invites one\n";
  Table table({{"NODE"},
               {"ROLE"},
               {"STATE"},
               {"CONNECTED FROM"},
               {"ROUND TRIP"},
               {"VERSION"},
               {"CERTIFICATE UNTIL"},
               {"DIRECTORY"}});
  for (const auto& listed : reply.nodes()) {
    const pb::Node& node = listed.node();
    const std::string state = state_name(node, wall_now_ns());
    table.add({printable(node.name()), joined_words(node.roles()),
               Table::Cell(state, state == "joined"    ? Colour::good
                                  : state == "invited" ? Colour::none
                                                       : Colour::warning),
               listed.connected() ? printable(listed.address()) : "-",
               round_trip_text(listed.connected() ? listed.round_trip_us() : 0),
               listed.connected()
                   ? fmt::format("{} ({})", printable(listed.version()), listed.protocol())
                   : "-",
               node.certificates().empty() ? "-" : end_text(certificate_end(node)),
               listed.directory().empty() ? "/" : printable(listed.directory())});
  }
  return table.text(colour_wanted());
}

struct Invitation {
  std::vector<CephUser> users;
  bool shares_user = false;  // it mounts, and uses RADOS sites as everybody does
  std::string line;
  pb::NodeReply reply;
  std::vector<std::string> addresses;
  int64_t expires_s = 0;
  std::string cloud;
};

bool mounting(const NodeRoles& roles) {
  return roles.has(NodeRole::mount) || roles.has(NodeRole::mount_ro);
}

// Made, or to be made by hand, or none.
result<std::vector<CephUser>> ceph_users_for(const Config& config, const NodeAddOptions& options,
                                             const NodeRoles& roles, const std::string& uuid) {
  if (options.ceph_admin.empty() && !options.ceph_print) return std::vector<CephUser>();
  auto users = ceph_users_of(config, options.name, uuid, !roles.has(NodeRole::mount));
  if (users.empty() || !mounting(roles))
    return failure(Errc::invalid, users.empty() ? "the cloud has no RADOS site: leave --ceph-admin "
                                                  "and --ceph-print out"
                                                : "only nodes that mount use RADOS sites: leave "
                                                  "--ceph-admin and --ceph-print out");
  if (options.ceph_print) return users;
  TRY(const auto administrator, CephAdministrator::make(options.ceph_admin, users));
  for (auto& user : users) {
    TRY(administrator.create(user));
  }
  return users;
}

Json ceph_json(const std::vector<CephUser>& users) {
  Json list = Json::array();
  for (const auto& user : users)
    list.push_back({{"site", user.site},
                    {"user", user.entity},
                    {"capabilities", user.capabilities},
                    {"made", !user.key.empty()},
                    {"command", creation_command(user, "")}});
  return list;
}

void tell_ceph_users(const Invitation& invitation, const NodeAddOptions& options,
                     const std::string& cloud) {
  if (invitation.shares_user)
    fmt::print(
        stderr,
        "At RADOS sites it is the same Ceph user as all nodes: bring conf and keyring there. "
        "--ceph-admin KEYRING or --ceph-print gives it users of its own, which `node revoke` "
        "can take away.\n");
  if (invitation.users.empty()) return;
  if (!options.ceph_print) {
    for (const auto& user : invitation.users)
      fmt::print(stderr, "Site {}: Ceph user {} may {}; its key travels in the line.\n", user.site,
                 user.entity, user.capabilities.substr(strlen("allow ")));
    return;
  }
  fmt::print(stderr,
             "Its Ceph users, each made at its cluster; put the files into the directory that "
             "it joins in (/etc/datacloud), mode 0600:\n");
  for (const auto& user : invitation.users)
    fmt::print(stderr, "  {}\n", creation_command(user, cloud + "." + user.site + ".keyring"));
}

result<Invitation> invite(const CommandContext& context, const NodeAddOptions& options) {
  TRY(const auto config, load_config(context.config));
  TRY(const auto roles, NodeRoles::parse(options.roles));
  if (roles.has(NodeRole::daemon))
    return failure(Errc::invalid, "a daemon is made by giving it the service key, not by joining");
  const auto valid = parse_milliseconds(options.valid);
  if (!valid) return failure(valid.error().in("--valid"));
  const uint64_t valid_ms = valid.value();
  if (valid_ms == 0 || valid_ms > kLineValidMsMax)
    return failure(Errc::invalid, "--valid " + options.valid +
                                      ": a line can be used for more than nothing and at most 30 "
                                      "days, such as 30min, 24h or 30d");
  if (!valid_node_name(options.name))
    return failure(Errc::invalid, "\"" + options.name.substr(0, 100) +
                                      "\" cannot name a node: 1 to 64 letters, digits, '-', '_' "
                                      "or '.'");
  const bool mounts = mounting(roles);
  KeyFile key;
  if (mounts) {
    TRY(key, key_for_node(config, options, roles));
  }
  TRY(auto link, connect_to_daemon(context));
  if (mounts && key.cloud_uuid != link.hello.cloud().uuid())
    return failure(Errc::invalid, config.keys.data.string() + " is the key of another cloud");
  TRY(const auto daemon, ask_nodes(link, {}));
  Invitation out;
  TRY(out.addresses, addresses_for(config, options, link.hello, daemon));

  JoinLine line;
  line.authority_hash = to_bytes(as_bytes(daemon.authority_hash()));
  line.secret = SecretKey::random();
  line.name = options.name;
  line.addresses = out.addresses;
  line.expires_s = out.expires_s =
      wall_now_ns() / kNsPerSecond + static_cast<int64_t>(valid_ms / 1000);
  pb::NodeBundle bundle;
  bundle.set_cloud_name(link.hello.cloud().name());
  bundle.set_cloud_uuid(link.hello.cloud().uuid());
  if (mounts) bundle.set_data_key(std::string(as_text(key.key.view())));
  // A node that the daemon refuses leaves its users behind, with which the next attempt goes on.
  TRY(const auto users, ceph_users_for(config, options, roles, link.hello.cloud().uuid()));
  out.users = users;
  bundle.set_configuration(shared_configuration(config, users));
  TRY(const auto organisation, organisation_of_servers(config));
  bundle.set_authorities(organisation.authorities);
  for (const auto& identity : organisation.daemon) bundle.add_daemon_identity(identity);
  std::string plain = bundle.SerializeAsString();
  const Bytes sealed = seal_bundle(line.secret, line.name, as_bytes(plain));
  OPENSSL_cleanse(plain.data(), plain.size());
  OPENSSL_cleanse(bundle.mutable_data_key()->data(), bundle.data_key().size());
  OPENSSL_cleanse(bundle.mutable_configuration()->data(), bundle.configuration().size());

  pb::NodeRequest request;
  request.set_action(pb::NODE_ADD);
  request.set_name(options.name);
  for (const auto& role : roles.names()) request.add_roles(role);
  request.set_key_hash(std::string(as_text(invitation_key(line.secret).hash())));
  request.set_sealed(std::string(as_text(sealed)));
  request.set_valid_ms(valid_ms);
  request.set_directory(options.directory);
  TRY(out.reply, ask_nodes(link, std::move(request)));
  if (!options.directory.empty() &&
      (out.reply.nodes().empty() || out.reply.nodes(0).directory().empty())) {
    pb::NodeRequest back;
    back.set_action(pb::NODE_REVOKE);
    back.set_name(options.name);
    TRY(ask_nodes(link, std::move(back)));
    return failure(Errc::unsupported,
                   "the daemon does not know --directory: install Data Cloud " DATACLOUD_VERSION
                   " there. The line was withdrawn");
  }
  out.shares_user = mounts && out.users.empty() &&
                    std::any_of(config.sites.begin(), config.sites.end(),
                                [](const auto& site) { return site.store == "rados"; });
  out.cloud = link.hello.cloud().name();
  out.line = encode_join_line(line);
  return out;
}

}  // namespace

int run_node_add(const CommandContext& context, const NodeAddOptions& options) {
  if (!options.certificate.empty() || !options.fingerprint.empty())
    return run_node_add_certified(context, options);
  auto made = invite(context, options);
  if (!made) return report_failure(made.error());
  auto& invitation = made.value();
  if (context.json) {
    fmt::print("{}", json_text({{"name", options.name},
                                {"roles", options.roles},
                                {"line", invitation.line},
                                {"addresses", invitation.addresses},
                                {"ceph_users", ceph_json(invitation.users)},
                                {"directory", options.directory.empty()
                                                  ? Json()
                                                  : Json(invitation.reply.nodes(0).directory())},
                                {"expires", invitation.expires_s}}));
  } else {
    // The line alone goes to stdout: `datacloud node add ... | ssh gpu07 datacloud join -`.
    fmt::print("{}\n", invitation.line);
    fmt::print(stderr,
               "On {}, run as root:  datacloud join LINE\nIt works once, until {}, at {}. Whoever "
               "has it can become that node: pass it on as you would a password.\n",
               options.name, local_time(invitation.expires_s * kNsPerSecond),
               fmt::join(invitation.addresses, ", "));
    tell_ceph_users(invitation, options, invitation.cloud);
    if (!options.directory.empty())
      fmt::print(stderr,
                 "Its mounts see {} and nothing else of the cloud's names. This is access control, "
                 "not secrecy: the node has the cloud's data key, and can read what it can fetch "
                 "from the sites.\n",
                 printable(options.directory));
  }
  OPENSSL_cleanse(invitation.line.data(), invitation.line.size());
  return kExitOk;
}

int run_node_list(const CommandContext& context, const std::string& name) {
  auto link = connect_to_daemon(context);
  if (!link) return report_failure(link.error());
  pb::NodeRequest request;
  request.set_name(name);
  const auto reply = ask_nodes(link.value(), std::move(request));
  if (!reply) return report_failure(reply.error());
  if (context.json) {
    fmt::print("{}", json_text(json_of(reply.value())));
    return kExitOk;
  }
  fmt::print("{}", text_of(reply.value()));
  if (name.empty()) return kExitOk;
  const pb::Node& node = reply.value().nodes(0).node();
  fmt::print("invited   {}\n", local_time(node.created_ns()));
  if (node.root() != 0)
    fmt::print("directory {}: access control, not secrecy\n",
               printable(reply.value().nodes(0).directory()));
  if (node.joined_ns() != 0) fmt::print("joined    {}\n", local_time(node.joined_ns()));
  if (node.revoked_ns() != 0) fmt::print("revoked   {}\n", local_time(node.revoked_ns()));
  if (node.state() == pb::NODE_INVITED)
    fmt::print("line      until {}\n", local_time(node.invitation().expires_ns()));
  for (const auto& certificate : node.certificates())
    fmt::print("serial    {}, until {}\n", to_hex(as_bytes(certificate.serial())),
               end_text(certificate.not_after_ns()));
  return kExitOk;
}

namespace {

// What a node that mounted can still do.
void tell_what_is_left(const std::vector<CephUser>& users, bool removed) {
  fmt::print(
      "It still has the data key: until keys change it can read every sealed shard that it "
      "gets hold of. Served sites take no more of it within seconds.\n");
  if (users.empty()) return;
  if (removed) {
    fmt::print(
        "Its Ceph users are removed: no new connection to RADOS sites; one that is open goes "
        "on until its ticket ends (within an hour), or its address is blocked: `ceph osd "
        "blocklist add ADDRESS`.\n");
    return;
  }
  fmt::print(
      "RADOS sites it can go on reading, and changing, until its Ceph user is removed or its "
      "key changed. If it had users of its own:\n");
  for (const auto& user : users) fmt::print("  {}\n", removal_command(user));
  fmt::print(
      "and, for connections that are open (an hour at most): ceph osd blocklist add ADDRESS\n");
}

}  // namespace

int run_node_revoke(const CommandContext& context, const NodeAddOptions& options) {
  const std::string& name = options.name;
  auto link = connect_to_daemon(context);
  if (!link) return report_failure(link.error());
  const auto config = load_config(context.config);
  std::vector<CephUser> users;
  if (config) users = ceph_users_of(config.value(), name, link.value().hello.cloud().uuid(), false);
  std::optional<CephAdministrator> administrator;
  if (!options.ceph_admin.empty()) {
    auto made = CephAdministrator::make(options.ceph_admin, users);
    if (!made) return report_failure(made.error());
    administrator = std::move(made).value();
  }
  pb::NodeRequest request;
  request.set_action(pb::NODE_REVOKE);
  request.set_name(name);
  const auto reply = ask_nodes(link.value(), std::move(request));
  if (!reply) return report_failure(reply.error());
  int code = kExitOk;
  for (const auto& user : users) {
    if (!administrator) break;
    if (auto removed = administrator->remove(user); !removed)
      code = report_failure(removed.error());
  }
  if (context.json) {
    fmt::print("{}", json_text(json_of(reply.value())));
    return code;
  }
  fmt::print("{} is revoked: its connections are closed, and the daemon takes no more of it.\n",
             printable(name));
  const auto& node = reply.value().nodes(0).node();
  const auto& roles = node.roles();
  if (node.joined_ns() == 0 && node.invitation().used_ns() == 0) {
    fmt::print("It had not joined: its line is good for nothing now.\n");
  } else if (std::any_of(roles.begin(), roles.end(),
                         [](const auto& role) { return role.starts_with("mount"); })) {
    tell_what_is_left(users, administrator.has_value() && code == kExitOk);
  }
  return code;
}

int run_node_renew(const CommandContext& context) {
  const auto config = load_config(context.config);
  if (!config) return report_failure(config.error());
  if (!config.value().node.joined())
    return report_failure(Error(Errc::invalid, context.config.string() +
                                                   " is not the configuration of a node: its "
                                                   "certificate is renewed on the node itself"));
  auto link = connect_to_daemon(context);
  if (!link) return report_failure(link.error());
  const auto until = renew_node_certificate(config.value().node, *link.value().client);
  if (!until) return report_failure(until.error());
  if (context.json)
    fmt::print("{}", json_text({{"not_after", until.value() / kNsPerSecond}}));
  else
    fmt::print("the certificate is good until {}\n", local_time(until.value()));
  return kExitOk;
}

}  // namespace datacloud
