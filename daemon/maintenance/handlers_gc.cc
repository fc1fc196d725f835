// Garbage: collected when the administrator asks, and told when nothing is left to collect.
#include "daemon/maintenance/maintenance.h"

namespace datacloud {
namespace {

constexpr auto kGcPoll = milliseconds(10);
constexpr int kGcTries = 3;  // at what a live site does not delete, for one who waits

}  // namespace

pb::GcReply Maintenance::gc_counts() const {
  pb::GcReply counts;
  counts.set_objects_deleted(collector_.counts().objects + scrub_.counts().objects +
                             continuous_scrub_.counts().objects);
  counts.set_bytes_deleted(collector_.counts().bytes + scrub_.counts().bytes +
                           continuous_scrub_.counts().bytes);
  counts.set_unknown_objects(scrub_.unknown_objects());
  return counts;
}

Answer Maintenance::gc(const CallPtr& call) {
  const auto before = gc_counts();
  collector_.restart();
  scrub_.kick();
  if (!call->request.gc().wait()) {
    pb::Reply reply;
    reply.mutable_gc()->set_unknown_objects(before.unknown_objects());
    return std::optional(std::move(reply));
  }
  answer_gc_when_idle(call, before, kGcTries);
  return later();
}

void Maintenance::answer_gc_when_idle(const CallPtr& call, pb::GcReply before, int tries) {
  if (!sessions_.all().contains(call->session)) return;  // nobody waits any more
  const bool idle = orphan_cleaner_.idle() && collector_.idle() && scrub_.idle();
  const bool retry = idle && collector_.failures().objects > 0 && tries > 1;
  if (!idle || retry) {
    if (retry) collector_.restart();
    loop_.after(kGcPoll, [this, call, before, left = tries - (retry ? 1 : 0)] {
      answer_gc_when_idle(call, before, left);
    });
    return;
  }
  pb::Reply reply;
  auto* counts = reply.mutable_gc();
  *counts = gc_counts();
  counts->set_objects_deleted(counts->objects_deleted() - before.objects_deleted());
  counts->set_bytes_deleted(counts->bytes_deleted() - before.bytes_deleted());
  counts->set_failed(collector_.failures().objects);
  counts->set_problem(collector_.failures().problem);
  responder_.answer(call, std::move(reply));
}

}  // namespace datacloud
