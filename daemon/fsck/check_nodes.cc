// The records of nodes. One that is wrong is taken out: the node is then not known any more, and
// joins again, while nobody can connect who could not before.
#include <sys/stat.h>

#include <string>
#include <string_view>

#include "daemon/fsck/record_passes.h"
#include "daemon/records/nodes.h"

namespace datacloud {

namespace {

// A directory that was removed leaves its number behind, which is not used again.
result<std::string> limit_problem(const RecordSnapshot& view, std::string_view value) {
  pb::Node node;
  pb::Inode inode;
  if (!node.ParseFromArray(value.data(), static_cast<int>(value.size())) || node.root() == 0)
    return std::string();
  TRY(const bool found, view.get(key::inode(node.root()), inode));
  if (!found || S_ISDIR(inode.mode())) return std::string();
  return "node " + node.name() + " is limited to inode " + std::to_string(node.root()) +
         ", which is no directory";
}

}  // namespace

result<void> check_nodes(RecordPasses& p) {
  auto at = p.view.scan_all('n');
  for (; at.valid(); at.next()) {
    TRY(p.count());
    std::string problem = node_problem(std::string(at.key()), at.value());
    if (problem.empty()) {
      TRY(problem, limit_problem(p.view, at.value()));
    }
    if (problem.empty()) continue;
    p.add({.kind = "ids",
           .text = problem,
           .action = "it is taken out: the node has to join again",
           .records = {erased(at)}});
  }
  return at.status();
}

}  // namespace datacloud
