//! Names, label keys and values: the rules of RFC 1123 and RFC 1035 as Kubernetes applies them.
