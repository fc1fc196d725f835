// Combining and proving at a RADOS site (rados_compute.h): by the OSD class, or from outside, where
// the object is read and the arithmetic done on the store's worker threads (never on librados',
// which must not be held up).
#include "common/store/rados/rados_compute.h"

#include "common/store/object_compute.h"
#include "common/store/rados/osd_class_abi.h"
#include "common/store/rados/rados_class.h"
#include "common/store/rados/rados_operations.h"

namespace datacloud {
namespace {

// Reads the object and runs `next` with it on a worker.
template <class T, class Next>
void read_then(std::shared_ptr<RadosCall<T>> call, std::vector<ByteRange> ranges,
               bool want_attributes, Next next) {
  rados_read(call->pool(), call->name(), std::move(ranges), want_attributes,
             [call, next = std::move(next)](int rc, result<ReadReply> reply) {
               if (rc < 0) return call->fail(rc);
               if (!reply) return call->answer(failure(reply.error()));
               auto shared = std::make_shared<ReadReply>(std::move(reply).value());
               call->calls().workers.post([next, shared] { next(std::move(*shared)); });
             });
}

// Runs a method of the class, or `outside` where that cannot be.
template <class T, class Decode>
void ask_class(std::shared_ptr<RadosCall<T>> call, const char* method, Bytes request, Decode decode,
               std::function<void()> outside) {
  with_rados_class(call->shared_pool(), [call, method, request = std::move(request), decode,
                                         outside = std::move(outside)](bool there) {
    if (!there) return outside();
    rados_class_read(
        call->pool(), call->name(), method, request, [call, decode, outside](int rc, Bytes bytes) {
          if (rados_class_is_missing(call->pool(), rc)) return outside();
          if (rc == -EBADMSG) {
            return call->answer(
                failure(Errc::corrupt, "the object's instance or tags are not what they must be"));
          }
          if (rc < 0) return call->fail(rc);
          T reply;
          if (decode(bytes, reply)) return call->answer(std::move(reply));
          call->answer(failure(Errc::corrupt, "the OSD class's answer is malformed"));
        });
  });
}

}  // namespace

void rados_combine(std::shared_ptr<RadosCall<CombineReply>> call, Combination combination) {
  auto shared = std::make_shared<const Combination>(std::move(combination));
  ask_class(
      call, kClassCombineMethod, encode_combine_request(*shared),
      [shared](const Bytes& bytes, CombineReply& reply) {
        return decode_combine_reply(bytes, *shared, reply);
      },
      [call, shared] {
        read_then(call, shared->ranges, false, [call, shared](ReadReply read) {
          call->answer(combine_ranges(std::move(read.ranges), *shared));
        });
      });
}

void rados_prove(std::shared_ptr<RadosCall<AuditProof>> call, AuditChallenge challenge) {
  ask_class(
      call, kClassProveMethod, encode_prove_request(challenge),
      [](const Bytes& bytes, AuditProof& proof) { return decode_prove_reply(bytes, proof); },
      [call, challenge] {
        read_then(call, {}, true, [call, challenge](ReadReply read) {
          auto planned = plan_proof(challenge, read.object_size, read.attributes);
          if (!planned) return call->answer(failure(planned.error()));
          auto plan = std::make_shared<ProofPlan>(std::move(planned).value());
          read_then(call, plan->ranges, false,
                    [call, plan](ReadReply blocks) { call->answer(plan->prove(blocks.ranges)); });
        });
      });
}

}  // namespace datacloud
