// `datacloud locate PATH`: the stripes of a file and where their shards are.
#include <fmt/format.h>

#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/mounted_path.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

struct Located {
  pb::Cloud cloud;
  pb::LocateReply reply;
};

result<Located> ask(const CommandContext& context, const std::string& path) {
  TRY(const auto inode, mounted_inode(path));
  pb::Request request;
  if (inode) {
    request.mutable_locate()->set_ino(*inode);
  } else {
    request.mutable_locate()->set_path(path.front() == '/' ? path : "/" + path);
  }
  TRY(auto link, connect_to_daemon(context));
  auto reply = link.call(std::move(request));
  if (!reply && !inode && reply.error().errno_value() == ENOENT) {
    return failure(Error(reply.error().code(), path +
                                                   ": not on a mounted cloud, and there is no "
                                                   "such path inside cloud " +
                                                   link.hello.cloud().name()));
  }
  if (!reply) return failure(reply.error());
  return Located{link.hello.cloud(), std::move(*reply.value().mutable_locate())};
}

}  // namespace

int run_locate(const CommandContext& context, const std::string& path) {
  if (path.empty()) return report_failure(Error(Errc::invalid, "locate needs a path"));
  auto located = ask(context, path);
  if (!located) return report_failure(located.error());
  const auto& [cloud, reply] = located.value();
  fmt::print("{}", context.json ? json_text(locate_json(cloud, reply, path))
                                : locate_text(cloud, reply, path, colour_wanted()));
  return kExitOk;
}

}  // namespace datacloud
