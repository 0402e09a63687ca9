"""Seeing the values that a net computes while it runs, without changing it.

The words of this package and of :mod:`initfast.recording`:

pre-activation, z   what goes into an activation; y is what comes out
call                an activation as it is called: its name and its numbers (``Call``)
module call         what runs in the place of a module's own call (``ModuleCall``)
shorter way         what a module call does where nobody watches (``ShorterWays``)
deferred tensor     a result whose values are not computed yet (``DeferredTensor``)
link                what computes them: a linear layer, perhaps with its activation (``Link``)
chain               links each of which is the next one's only input, run as one operator
queue               what has been asked for and has not run or is not measured (``Queue``)
kernels             the dispatch key of the kernels that take a tensor
row                 eight numbers that an operator measured of a tensor (``Rows``); its address is
                    its number
mask                which units of a layer are not zero over the whole batch; it has a number too
mark                what else is known of a row's tensor: whose output it is (``Marks``)
source, event       what made a tensor; an operator that ran, and where its rows are
layer               what a reader sees: an event with its numbers (:class:`initfast.Layer`), after
                    a layer for its pre-activation where that is a module's output
graph               autograd's, never anything else
"""
