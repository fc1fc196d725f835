// `datacloud policy`: what new files of a directory look like; and `background`: pause and limit.
#include <fmt/format.h>

#include "common/sealed_block.h"
#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/mounted_path.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

const char* compression_name(uint32_t compression) {
  return compression == static_cast<uint32_t>(Compression::none) ? "none" : "zstd";
}

result<pb::PolicyReply> ask(const CommandContext& context, const std::string& path,
                            const PolicyOptions* options) {
  TRY(auto link, connect_to_daemon(context));
  pb::AdminRequest request;
  auto* policy = request.mutable_policy();
  TRY(const auto inode, mounted_inode(path));
  if (inode) {
    policy->set_ino(*inode);
  } else {
    policy->set_path(path.starts_with('/') ? path : "/" + path);
  }
  if (options != nullptr) {
    policy->set_change(true);
    policy->set_code(options->code);
    policy->set_compress(options->compress);
    if (!options->block.empty()) {
      TRY(const uint64_t bytes, parse_bytes(options->block));
      policy->set_block_bytes(static_cast<uint32_t>(std::min<uint64_t>(bytes, UINT32_MAX)));
    }
  }
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_policy());
}

int tell(const CommandContext& context, const std::string& path,
         const result<pb::PolicyReply>& reply) {
  if (!reply) return report_failure(reply.error());
  const auto& r = reply.value();
  if (context.json) {
    fmt::print("{}", json_text({{"path", path},
                                {"code", r.policy().code()},
                                {"block_bytes", r.policy().block_bytes()},
                                {"compress", compression_name(r.policy().compression())},
                                {"tolerance", r.tolerance()},
                                {"overhead", r.overhead()}}));
    return kExitOk;
  }
  fmt::print("code      {}: {:.2f} bytes stored per byte of incompressible data\n",
             r.policy().code(), r.overhead());
  fmt::print("survives  {}\n", r.tolerance());
  fmt::print("block     {}\n", human_bytes(r.policy().block_bytes()));
  fmt::print("compress  {}\n", compression_name(r.policy().compression()));
  return kExitOk;
}

}  // namespace

int run_policy_show(const CommandContext& context, const std::string& path) {
  return tell(context, path, ask(context, path, nullptr));
}

int run_policy_set(const CommandContext& context, const std::string& path,
                   const PolicyOptions& options) {
  return tell(context, path, ask(context, path, &options));
}

int run_background(const CommandContext& context, const BackgroundOptions& options) {
  auto link = connect_to_daemon(context);
  if (!link) return report_failure(link.error());
  pb::AdminRequest request;
  auto* background = request.mutable_background();
  if (options.action == "pause" || options.action == "resume") {
    background->set_pause(options.action == "pause");
  }
  if (options.action == "limit") {
    const auto bytes = parse_bytes(options.limit);
    if (!bytes) return report_failure(bytes.error());
    background->set_site_bytes_per_second_max(bytes.value());
  }
  const auto reply = call_admin(link.value(), request);
  if (!reply) return report_failure(reply.error());
  pb::StatusDetails details;
  *details.mutable_background() = reply.value().background();
  fmt::print("{}", context.json ? json_text(background_json(details)) : limits_text(details));
  return kExitOk;
}

}  // namespace datacloud
