// The records of nodes. One that is wrong is taken out: the node is then not known any more, and
// joins again, while nobody can connect who could not before.
#include "daemon/fsck/record_passes.h"
#include "daemon/records/nodes.h"

namespace datacloud {

result<void> check_nodes(RecordPasses& p) {
  auto at = p.view.scan_all('n');
  for (; at.valid(); at.next()) {
    TRY(p.count());
    const std::string problem = node_problem(std::string(at.key()), at.value());
    if (problem.empty()) continue;
    p.add({.kind = "ids",
           .text = problem,
           .action = "it is taken out: the node has to join again",
           .records = {erased(at)}});
  }
  return at.status();
}

}  // namespace datacloud
