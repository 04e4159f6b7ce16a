"""An answer told to people and programs: as text with marks, as JSON, as HTML. What shows answers reads it from here.

    There is a red ring, a heart[!] and a star[?].

[!] stands behind a claim that the picture contradicts, [?] behind one that it leaves open; a claim without a mark is
supported. ``parts`` cuts an answer into stretches, ``text`` and ``values`` and ``markup`` write it, ``transcript`` a whole
conversation. ``why`` explains a claim's verdict in words and is handed in by those who know the evidence;
``parts.figures`` is the plain list of it.
"""
