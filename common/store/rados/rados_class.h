// Our OSD class (osd_class_abi.h) as clients of one pool see it: is it there, and its methods.
//
// Asked once per pool, with a combination over the marker, which also tells whether the pool lets
// classes read (Ceph's erasure-coded ones do not). What is noticed later counts too; a class that
// was missing is looked for again when somebody asks for the site's capacity.
#pragma once

#include <functional>

#include "common/store/rados/rados_pool.h"

namespace datacloud {

// Asks now. Unknown stays unknown when the answer says nothing about the class.
void probe_rados_class(const std::shared_ptr<RadosPool>&, std::function<void()> done);
// Asks unless it is known; `done` gets whether the class can be used.
void with_rados_class(const std::shared_ptr<RadosPool>&, std::function<void(bool)> done);
// Whether a method's failure means that the class cannot be used here, which is remembered.
bool rados_class_is_missing(RadosPool&, int rc);

void rados_class_read(RadosPool&, const std::string& name, const char* method, const Bytes& request,
                      std::function<void(int rc, Bytes reply)> done);
void rados_class_write(RadosPool&, const std::string& name, const char* method,
                       const Bytes& request, RadosPool::Done);

}  // namespace datacloud
