cpdef bytes pack(object command)
cpdef bytes spell(bytes head, bytes key, bytes tail)
cpdef bytes widen(bytes entry, bytes word)
